package capture

// internBytes is how much text an interner holds before it starts over.
const internBytes = 16 << 20

// interner returns one string for equal bytes, so that a column of user agents takes memory for its
// distinct values only. When it is full it forgets all, which keeps it bounded whatever the traffic.
type interner struct {
	strings map[string]string
	bytes   int
}

func (n *interner) get(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := n.strings[string(b)]; ok {
		return s
	}
	const overhead = 64
	if n.strings == nil || n.bytes+len(b)+overhead > internBytes {
		n.strings, n.bytes = map[string]string{}, 0
	}
	s := string(b)
	n.strings[s] = s
	n.bytes += len(b) + overhead
	return s
}
