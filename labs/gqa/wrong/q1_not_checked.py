"""A head that there is not, or groups that do not come out even, should raise ValueError."""


def shared_head(head, n_heads, n_kv_heads):
    return head // max(1, n_heads // n_kv_heads)
