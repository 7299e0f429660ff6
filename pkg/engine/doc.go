// Package engine runs ClickHouse as a child process of the program that uses it, so that one machine needs neither a
// server nor a container.
//
// # Processes
//
// The child is the same executable, started again (MaybeChild), with libchdb.so loaded by purego (no cgo); where the
// library is a clickhouse binary, the child supervises `clickhouse server` instead. It listens on loopback only. The
// child holds a lock file for its lifetime, and a unix control socket. Every process that uses the engine, the one
// that started it included, keeps one connection to that socket for as long as it uses the engine; the kernel closes
// it even when the process is killed. The child stops when the last connection is gone, when a client says so (Stop),
// or on SIGTERM and SIGINT. So nobody pulls the engine away under somebody else by leaving, and nothing is left behind
// by a crash: a lock that is free means that no engine runs, whatever the files say.
//
// # Data directory
//
//	engine.lock       locked by the child, never removed
//	engine.json       who runs the engine, and where it listens; removed by a clean stop
//	control.sock      control socket (elsewhere if the path is longer than the system allows)
//	password          of user murmuration, 0600
//	reader.password   of user reader, 0600
//	config/           generated at every start: config.xml, users.xml
//	log/              engine.log, engine.err.log (rotated), engine.stderr (of the last start)
//	data/             the databases
//	user_files/       what dictionaries and nothing else may read
//	backups/          where BACKUP … TO File('name') writes
//
// # Users
//
// "murmuration" owns the data and may not read files, addresses or other servers through table functions. "reader" may
// only read, within limits. "default" has no password, comes from loopback, and may do nothing but open the two listeners,
// once (the library's own session needs it): the privilege for it is also that for closing them, so a quota ends it there.
//
// One limit of the library's local mode is known: a dictionary created by SQL may have an EXECUTABLE source, so whoever
// has the password of "murmuration" can run programs as the user who owns the data directory. That password is
// readable by that user alone, and "reader" cannot create anything.
package engine
