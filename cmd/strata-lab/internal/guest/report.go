package guest

import (
	"context"
	"fmt"
	"io"
	"time"
)

// report prints each check as it ends and counts the misses.
type report struct {
	out            io.Writer
	start          time.Time
	passed, missed int
}

// check runs f; its detail says what was measured, its error what was wrong. A check after
// the context's end is not run and counts as missed.
func (r *report) check(ctx context.Context, name string, f func(context.Context) (detail string, err error)) bool {
	began := time.Now()
	detail, err := "", ctx.Err()
	if err == nil {
		detail, err = f(ctx)
	}
	mark := "ok  "
	if err != nil {
		mark, detail = "MISS", err.Error()
		r.missed++
	} else {
		r.passed++
	}
	fmt.Fprintf(r.out, "%s %6.1f s  (%5.1f s)  %-34s %s\n",
		mark, time.Since(r.start).Seconds(), time.Since(began).Seconds(), name, detail)
	return err == nil
}

// end prints the closing line and gives the exit code.
func (r *report) end() int {
	fmt.Fprintf(r.out, "lab-smoke: %d checks passed, %d missed, %.0f s\n", r.passed, r.missed, time.Since(r.start).Seconds())
	if r.missed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}
