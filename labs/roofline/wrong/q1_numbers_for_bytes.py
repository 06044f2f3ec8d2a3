"""That is how many numbers are moved; each has bytes_per_number bytes."""


def matmul_cost(m, k, n, bytes_per_number):
    return 2 * m * k * n, m * k + k * n + m * n
