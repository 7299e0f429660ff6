package engine

import "fmt"

// newRunner writes the passwords and the configuration, and returns what runs the kind of library that was found.
// The caller holds the lock.
func newRunner(l layout, req startRequest) (runner, error) {
	owner, err := ensurePassword(l.Password)
	if err != nil {
		return nil, explain(l.Dir, err)
	}
	reader, err := ensurePassword(l.ReaderPassword)
	if err != nil {
		return nil, explain(l.Dir, err)
	}
	s := settings{Layout: l, Memory: req.Memory, ExtraConfig: req.ExtraConfig, TCPPort: req.TCPPort, HTTPPort: req.HTTPPort}
	var r runner
	switch req.Library.Kind {
	case KindLibrary:
		r = libraryRunner{layout: l, req: req}
	case KindBinary:
		if s.TCPPort, s.HTTPPort, err = pickPorts(req.TCPPort, req.HTTPPort); err != nil {
			return nil, err
		}
		s.Server = true
		r = binaryRunner{layout: l, program: req.Library.Path, tcpPort: s.TCPPort, httpPort: s.HTTPPort}
	default:
		return nil, fmt.Errorf("engine of unknown kind %q", req.Library.Kind)
	}
	return r, writeConfig(s, owner, reader, req.ExtraGrants)
}
