"""Every weight is multiplied once for each sequence of the batch."""


def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    kv = batch * context * kv_numbers
    return 2 * n_weights + 2 * group * kv, n_weights * bytes_per_weight + kv * bytes_per_kv
