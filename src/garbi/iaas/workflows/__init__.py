"""Operations on nodes as lists of steps, each recorded before and after it; every step may be repeated."""
