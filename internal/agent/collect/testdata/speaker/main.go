// Command speaker is what runs in the tests' containers: it writes so many lines to its two streams in turn, one of them
// longer than Docker keeps in one piece.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) < 4 {
		return 2
	}
	from, err1 := strconv.Atoi(os.Args[1])
	to, err2 := strconv.Atoi(os.Args[2])
	pause, err3 := time.ParseDuration(os.Args[3])
	if err1 != nil || err2 != nil || err3 != nil {
		return 2
	}
	for i := from; i < to; i++ {
		out := os.Stdout
		if i%2 == 1 {
			out = os.Stderr
		}
		text := fmt.Sprintf("line %d", i)
		if i%50 == 7 {
			text += strings.Repeat(" long", 5000)
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return 1
		}
		time.Sleep(pause)
	}
	return 0
}
