def decode_cost(n_weights, batch, context, kv_numbers, group, bytes_per_weight, bytes_per_kv):
    flops, moved = 0, n_weights * bytes_per_weight
    for _ in range(batch):
        flops += 2 * n_weights + 2 * group * context * kv_numbers
        moved += context * kv_numbers * bytes_per_kv
    return flops, moved
