//go:build race

package logs

func init() { slowdown = 10 }
