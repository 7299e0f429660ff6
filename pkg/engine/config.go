package engine

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
)

//go:embed config/config.xml.tmpl
var configTemplate string

//go:embed config/users.xml.tmpl
var usersTemplate string

//go:embed config/murmuration.grants
var ownerGrants string

//go:embed config/reader.grants
var readerGrants string

//go:embed config/default.grants
var sessionGrants string

// Names of the users, see the package comment.
const (
	OwnerUser   = "murmuration"
	ReaderUser  = "reader"
	sessionUser = "default"
)

const (
	memoryRatio  = 0.6     // of the machine's memory, or of the control group's
	readerMemory = 4 << 30 // bytes that one query of the reader may use
)

// Grants lists the GRANT statements of OwnerUser or ReaderUser, without "TO user"; nil for any other name. They are
// the one source for the embedded engine; roles on a real server should give the same.
func Grants(user string) []string {
	switch user {
	case OwnerUser:
		return statements(ownerGrants)
	case ReaderUser:
		return statements(readerGrants)
	}
	return nil
}

func statements(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// account is a user as users.xml has it.
type account struct {
	Name, PasswordSHA256, Profile, Quota string
	Grants                               []string
}

// settings is what the two templates are filled with.
type settings struct {
	Layout            layout
	Server            bool // a clickhouse server, which opens the listeners by itself
	TCPPort, HTTPPort int
	Memory            int64 // bytes, 0 leaves it to the ratio
	MemoryRatio       float64
	ReaderMemory      int64
	ExtraConfig       string
	Accounts          []account
}

// writeConfig writes config.xml and users.xml. The caller holds the lock.
func writeConfig(s settings, ownerPassword, readerPassword string, extraGrants []string) error {
	s.MemoryRatio, s.ReaderMemory = memoryRatio, readerMemory
	s.Accounts = []account{
		{OwnerUser, sha256Hex(ownerPassword), "default", "default", append(statements(ownerGrants), extraGrants...)},
		{ReaderUser, sha256Hex(readerPassword), "reader", "default", statements(readerGrants)},
	}
	if !s.Server {
		s.Accounts = append(s.Accounts, account{Name: sessionUser, Profile: "default", Quota: "session", Grants: statements(sessionGrants)})
	}
	for path, text := range map[string]string{s.Layout.Config: configTemplate, s.Layout.Users: usersTemplate} {
		t, err := template.New(path).Funcs(template.FuncMap{"xml": escapeXML}).Parse(text)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, s); err != nil {
			return err
		}
		if err := writeFile(path, b.Bytes()); err != nil {
			return explain(s.Layout.Dir, err)
		}
	}
	return nil
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// checkFragment makes sure that a piece of configuration is XML of its own: it must not break out of the rest.
func checkFragment(fragment string) error {
	d := xml.NewDecoder(strings.NewReader(fragment))
	for {
		switch _, err := d.Token(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("extra engine configuration: %w", err)
		}
	}
}
