def matmul_cost(m, k, n, bytes_per_number):
    read = bytes_per_number * (m * k) + bytes_per_number * (k * n)
    written = bytes_per_number * m * n
    return (m * n * k * 2, read + written)
