def matmul_cost(m, k, n, bytes_per_number):
    flops = sum(k + k for _ in range(m * n))
    numbers = k * (m + n) + m * n
    return flops, numbers * bytes_per_number
