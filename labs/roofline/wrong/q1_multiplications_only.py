"""A multiplication and an addition are two FLOPs."""


def matmul_cost(m, k, n, bytes_per_number):
    return m * k * n, (m * k + k * n + m * n) * bytes_per_number
