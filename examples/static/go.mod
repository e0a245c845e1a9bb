module static

go 1.26
