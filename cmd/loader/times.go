package main

import (
	"fmt"
	"math"
	"time"

	"github.com/urfave/cli/v2"
)

// timeValue is a flag's value that is a time.
type timeValue struct{ time.Time }

// Set takes RFC 3339, or date and time in UTC with a space between, or a date.
func (t *timeValue) Set(s string) error {
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if v, err := time.Parse(layout, s); err == nil {
			if v.Unix() < 0 || v.Unix() > math.MaxUint32 { // What the tables can hold.
				return fmt.Errorf("%q lies outside 1970-01-01 to 2106-02-07", s)
			}
			t.Time = v.UTC()
			return nil
		}
	}
	return fmt.Errorf("%q is not a time: write 2026-06-15, \"2026-06-15 12:00:00\" (UTC) or 2026-06-15T12:00:00+02:00", s)
}

func (t *timeValue) String() string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// timeFlag is a flag whose value is a time.
func timeFlag(name, usage string) cli.Flag {
	return &cli.GenericFlag{Name: name, Value: &timeValue{}, Usage: usage}
}

// timestamp returns the value of a timeFlag, the zero time if it was not given.
func timestamp(c *cli.Context, name string) time.Time {
	if t, ok := c.Generic(name).(*timeValue); ok {
		return t.Time
	}
	return time.Time{}
}
