"""The result is written, too."""


def matmul_cost(m, k, n, bytes_per_number):
    return 2 * m * k * n, (m * k + k * n) * bytes_per_number
