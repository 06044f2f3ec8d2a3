"""Each sequence has keys and values of its own: their bytes grow with the batch."""


def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    kv = batch * context * kv_numbers
    return (
        2 * n_weights * batch + 2 * group * kv,
        n_weights * bytes_per_weight + context * kv_numbers * bytes_per_kv,
    )
