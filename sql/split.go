package sql

import "strings"

// Split takes a text of several statements apart at the semicolons that stand outside strings,
// quoted identifiers and comments, and leaves comments before a statement away. It knows ClickHouse's
// lexis: 'strings' and `identifiers` and "identifiers" with backslash escapes and doubled quotes, -- and #! and "# "
// comments to the end of the line, /* */ comments, and $tag$ heredocs $tag$.
func Split(text string) []string {
	var out []string
	start, empty := 0, true
	flush := func(end int) {
		if !empty {
			out = append(out, strings.Trim(text[start:end], space))
		}
		start, empty = end+1, true
	}
	for i := 0; i < len(text); {
		n, token := lex(text[i:])
		switch token {
		case tokenEnd:
			flush(i)
		case tokenComment, tokenSpace:
			if empty {
				start = i + n
			}
		default:
			empty = false
		}
		i += n
	}
	flush(len(text))
	return out
}

// space is what ClickHouse takes for white space between tokens.
const space = " \t\n\v\f\r"

type token int

const (
	tokenText token = iota
	tokenSpace
	tokenComment
	tokenEnd
)

// lex returns the length and the sort of the token that s, which is not empty, starts with.
func lex(s string) (int, token) {
	switch c := s[0]; {
	case c == ';':
		return 1, tokenEnd
	case strings.IndexByte(space, c) >= 0:
		return 1, tokenSpace
	case strings.HasPrefix(s, "--") || strings.HasPrefix(s, "#!") || strings.HasPrefix(s, "# "):
		return until(s, 0, "\n"), tokenComment
	case strings.HasPrefix(s, "/*"):
		return until(s, 2, "*/"), tokenComment
	case c == '\'' || c == '"' || c == '`':
		return quoted(s), tokenText
	case isWord(s[:1]):
		return word(s), tokenText
	case c == '$':
		if end := strings.IndexByte(s[1:], '$'); end >= 0 && isWord(s[1:1+end]) {
			return until(s, end+2, s[:end+2]), tokenText
		}
	}
	return 1, tokenText
}

// until returns the length of s up to and with the first mark at or after from, or all of it.
func until(s string, from int, mark string) int {
	if i := strings.Index(s[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(s)
}

// quoted returns the length of the quoted token that s starts with.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			if i+1 == len(s) || s[i+1] != s[0] {
				return i + 1
			}
			i++
		}
	}
	return len(s)
}

// word returns the length of the bare word that s starts with; a $ inside it starts no heredoc.
func word(s string) int {
	n := 1
	for n < len(s) && (s[n] == '$' || isWord(s[n:n+1])) {
		n++
	}
	return n
}

func isWord(s string) bool {
	for _, r := range s {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

// Word is a token of a statement that is neither space nor comment: a bare word, a quoted string or identifier, or one
// character of punctuation. text[Start:End] of the statement is its Text.
type Word struct {
	Text       string
	Start, End int
}

// Words takes a statement apart, by the lexis that Split knows.
func Words(text string) []Word {
	var out []Word
	for i := 0; i < len(text); {
		n, token := lex(text[i:])
		if token == tokenText || token == tokenEnd {
			out = append(out, Word{Text: text[i : i+n], Start: i, End: i + n})
		}
		i += n
	}
	return out
}
