def worst_error(scales):
    return 0.5 * scales
