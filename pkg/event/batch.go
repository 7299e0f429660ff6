package event

// Batch holds events by columns, which is how ClickHouse takes them: column i of every slice belongs
// to event i. A Batch is reused: Reset keeps the memory.
type Batch struct {
	Time        []int64
	Sensor      []string
	Src         []IP
	Dst         []IP
	Sport       []uint16
	Dport       []uint16
	Proto       []Proto
	Kind        []Kind
	Technique   []Technique
	Packets     []uint32
	Flags       []uint8
	Window      []uint16
	Seq         []uint32
	IPID        []uint16
	TTL         []uint8
	DF          []bool
	Signature   []string
	Tool        []string
	ICMPType    []uint8
	ICMPCode    []uint8
	PayloadLen  []uint32
	PayloadHash []uint64
	Method      []string
	Host        []string
	Path        []string
	UserAgent   []string

	text int64 // bytes of text held by the string columns
}

// rowBytes is what one event takes in a Batch without its text: the fixed columns and seven string headers.
const rowBytes = 8 + 16 + 16 + 2 + 2 + 1 + 1 + 1 + 4 + 1 + 2 + 4 + 2 + 1 + 1 + 1 + 1 + 4 + 8 + 7*16

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.Time) }

// Bytes returns about how much memory the events take. Text that rows share is counted for each.
func (b *Batch) Bytes() int64 { return int64(b.Len())*rowBytes + b.text }

// Append adds one event.
func (b *Batch) Append(e *Event) {
	b.Time = append(b.Time, e.Time)
	b.Sensor = append(b.Sensor, e.Sensor)
	b.Src = append(b.Src, e.Src)
	b.Dst = append(b.Dst, e.Dst)
	b.Sport = append(b.Sport, e.Sport)
	b.Dport = append(b.Dport, e.Dport)
	b.Proto = append(b.Proto, e.Proto)
	b.Kind = append(b.Kind, e.Kind)
	b.Technique = append(b.Technique, e.Technique)
	b.Packets = append(b.Packets, e.Packets)
	b.Flags = append(b.Flags, e.Flags)
	b.Window = append(b.Window, e.Window)
	b.Seq = append(b.Seq, e.Seq)
	b.IPID = append(b.IPID, e.IPID)
	b.TTL = append(b.TTL, e.TTL)
	b.DF = append(b.DF, e.DF)
	b.Signature = append(b.Signature, e.Signature)
	b.Tool = append(b.Tool, e.Tool)
	b.ICMPType = append(b.ICMPType, e.ICMPType)
	b.ICMPCode = append(b.ICMPCode, e.ICMPCode)
	b.PayloadLen = append(b.PayloadLen, e.PayloadLen)
	b.PayloadHash = append(b.PayloadHash, e.PayloadHash)
	b.Method = append(b.Method, e.Method)
	b.Host = append(b.Host, e.Host)
	b.Path = append(b.Path, e.Path)
	b.UserAgent = append(b.UserAgent, e.UserAgent)
	b.text += int64(len(e.Sensor) + len(e.Signature) + len(e.Tool) + len(e.Method) + len(e.Host) + len(e.Path) + len(e.UserAgent))
}

// Row returns event i.
func (b *Batch) Row(i int) Event {
	return Event{
		Time: b.Time[i], Sensor: b.Sensor[i], Src: b.Src[i], Dst: b.Dst[i], Sport: b.Sport[i], Dport: b.Dport[i],
		Proto: b.Proto[i], Kind: b.Kind[i], Technique: b.Technique[i], Packets: b.Packets[i], Flags: b.Flags[i],
		Window: b.Window[i], Seq: b.Seq[i], IPID: b.IPID[i], TTL: b.TTL[i], DF: b.DF[i], Signature: b.Signature[i],
		Tool: b.Tool[i], ICMPType: b.ICMPType[i], ICMPCode: b.ICMPCode[i], PayloadLen: b.PayloadLen[i],
		PayloadHash: b.PayloadHash[i], Method: b.Method[i], Host: b.Host[i], Path: b.Path[i], UserAgent: b.UserAgent[i],
	}
}

// Reset empties the batch and keeps its memory. String columns are cleared so that they hold no text alive.
func (b *Batch) Reset() {
	for _, s := range []*[]string{&b.Sensor, &b.Signature, &b.Tool, &b.Method, &b.Host, &b.Path, &b.UserAgent} {
		clear(*s)
		*s = (*s)[:0]
	}
	b.Time, b.Src, b.Dst = b.Time[:0], b.Src[:0], b.Dst[:0]
	b.Sport, b.Dport = b.Sport[:0], b.Dport[:0]
	b.Proto, b.Kind, b.Technique = b.Proto[:0], b.Kind[:0], b.Technique[:0]
	b.Packets, b.Flags, b.Window, b.Seq, b.IPID = b.Packets[:0], b.Flags[:0], b.Window[:0], b.Seq[:0], b.IPID[:0]
	b.TTL, b.DF, b.ICMPType, b.ICMPCode = b.TTL[:0], b.DF[:0], b.ICMPType[:0], b.ICMPCode[:0]
	b.PayloadLen, b.PayloadHash = b.PayloadLen[:0], b.PayloadHash[:0]
	b.text = 0
}
