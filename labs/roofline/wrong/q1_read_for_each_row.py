"""Each factor is read once, not once for every row of the other."""


def matmul_cost(m, k, n, bytes_per_number):
    return 2 * m * k * n, (m * k + m * k * n + m * n) * bytes_per_number
