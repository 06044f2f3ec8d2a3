"""Count k additions, not k - 1: by convention a product has 2 m k n FLOPs."""


def matmul_cost(m, k, n, bytes_per_number):
    return m * n * (2 * k - 1), (m * k + k * n + m * n) * bytes_per_number
