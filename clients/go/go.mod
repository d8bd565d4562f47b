module fullon-operate

go 1.23
