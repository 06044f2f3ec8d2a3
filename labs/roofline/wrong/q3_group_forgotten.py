"""A key is multiplied with `group` queries, but read once."""


def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    kv = batch * context * kv_numbers
    return 2 * n_weights * batch + 2 * kv, n_weights * bytes_per_weight + kv * bytes_per_kv
