"""A multiplication and an addition are two FLOPs."""


def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    kv = batch * context * kv_numbers
    return n_weights * batch + group * kv, n_weights * bytes_per_weight + kv * bytes_per_kv
