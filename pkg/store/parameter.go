package store

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// parameter returns a question's parameter in the form that its SQL takes, or says what it must be. The server would take
// some for another value than was meant (it lets numbers overflow), and explains the others by its own source.
func parameter(p Param, value string) (string, error) {
	switch p.Name {
	case "at":
		return timeParameter(value)
	case "prefix", "network":
		return prefixParameter(value)
	case "source":
		if _, err := netip.ParseAddr(value); err != nil {
			return "", errors.New("it must be an address such as 192.0.2.1 or 2001:db8::1")
		}
		return value, nil
	case "port":
		if _, err := strconv.ParseUint(value, 10, 16); err != nil {
			return "", errors.New("it must be a port from 0 to 65535")
		}
		return value, nil
	}
	if bits, ok := strings.CutPrefix(p.Type, "UInt"); ok {
		size, err := strconv.Atoi(bits)
		if err != nil {
			return "", fmt.Errorf("type %s of the question: %w", p.Type, err)
		}
		least := uint64(0)
		if p.Name == "hours" || p.Name == "days" {
			least = 1 // No time at all has no answer; whole hours and days would be answered for.
		}
		if n, err := strconv.ParseUint(value, 10, size); err != nil || n < least {
			return "", fmt.Errorf("it must be a whole number from %d to %d", least, uint64(1)<<size-1)
		}
	}
	if p.Type == "Date" {
		if _, err := time.Parse(time.DateOnly, value); err != nil {
			return "", errors.New("it must be a day such as 2026-06-01")
		}
	}
	return value, nil
}

// timeParameter takes what the command line's flags take, and a few shorter forms.
func timeParameter(value string) (string, error) {
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, value); err == nil {
			return t.UTC().Format("2006-01-02 15:04:05.000000"), nil
		}
	}
	return "", errors.New(`it must be a time: 2026-06-15, "2026-06-15 12:00:00" (UTC) or 2026-06-15T12:00:00+02:00`)
}

// prefixParameter takes a prefix, or an address as a prefix of one.
func prefixParameter(value string) (string, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		a, err := netip.ParseAddr(value)
		if err != nil {
			return "", errors.New("it must be a prefix such as 192.0.2.0/24 or 2001:db8::/48, or an address")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p.Masked().String(), nil
}
