package buffer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

// helperMain is what the test binary does when a test has started it as a child.
func helperMain() (handled bool, code int) {
	switch os.Getenv("BUFFER_HELPER") {
	case "":
		return false, 0
	case "write":
		return true, helperWrite(os.Getenv("BUFFER_PATH"), os.Getenv("BUFFER_FROM"))
	case "flip":
		return true, helperFlip(os.Getenv("BUFFER_PATH"), os.Getenv("BUFFER_FROM"))
	}
	return true, 2
}

// helperWrite puts numbered records and says which are on the disk, until it is killed.
func helperWrite(path, from string) int {
	n, err := strconv.Atoi(from)
	if err != nil {
		return 2
	}
	q, rep, err := Open(path, Options{Sinks: []string{"a"}, Linger: time.Millisecond})
	if err != nil || rep.Damaged != "" {
		fmt.Fprintln(os.Stderr, err, rep.Damaged)
		return 1
	}
	go q.Run(context.Background())
	for ; ; n++ {
		r := Record{Payload: []byte(strconv.Itoa(n)), Priority: Priority(n % 2)}
		if err := q.Put(context.Background(), r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(n) // unbuffered: a kill loses no line
	}
}
