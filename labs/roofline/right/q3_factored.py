def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    per_sequence = n_weights + group * context * kv_numbers
    return (
        2 * batch * per_sequence,
        bytes_per_weight * n_weights + bytes_per_kv * kv_numbers * context * batch,
    )
