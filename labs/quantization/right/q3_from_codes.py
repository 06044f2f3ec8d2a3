def worst_error(scales):
    return scales - scales * 0.5
