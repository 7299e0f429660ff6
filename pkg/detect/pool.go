package detect

import (
	"context"
	"sync"
	"sync/atomic"
)

// pool is the workers of a run. One is whoever called Run; the others join whatever has work to share out, and a piece of
// work may share out its own. Who does what never changes a result: pieces are independent, and what they yield is
// put together in their order.
type pool struct {
	spare chan struct{} // a place for each worker at work beside the first
	room  sync.Pool     // *scratch
}

func newPool(workers int) *pool {
	p := &pool{spare: make(chan struct{}, max(0, workers-1))}
	p.room.New = func() any { return &scratch{} }
	return p
}

// share calls f for every number below n, in no order, on as many workers as are free, each with counters of its own; w are
// the caller's. It returns when all calls have, and leaves out those that had not begun when the context ended.
func (p *pool) share(ctx context.Context, w *scratch, n int, f func(i int, w *scratch)) {
	var next atomic.Int64
	var others sync.WaitGroup
	var work func(w *scratch)
	work = func(w *scratch) {
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if i+1 < n {
				p.join(&others, work)
			}
			f(i, w)
		}
	}
	work(w)
	others.Wait()
}

// join starts one more worker, if one is free.
func (p *pool) join(others *sync.WaitGroup, work func(w *scratch)) {
	select {
	case p.spare <- struct{}{}:
		others.Go(func() {
			w := p.room.Get().(*scratch)
			work(w)
			p.room.Put(w)
			<-p.spare
		})
	default:
	}
}
