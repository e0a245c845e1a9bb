package registry

import (
	"context"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// Run removes what is not to be kept, now and then until ctx ends.
func (h *Handler) Run(ctx context.Context) error {
	ticker := time.NewTicker(h.cfg.Collect)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := h.Collect(ctx); err != nil && ctx.Err() == nil && maru.KindOf(err) != maru.Unavailable {
			h.log.WarnContext(ctx, "the registry is not cleaned", "error", err)
		}
	}
}

// Collect removes what is not to be kept, and tells what that was. Images of releases are not concerned: the
// engine has these by itself.
func (h *Handler) Collect(ctx context.Context) ([]maru.Content, error) {
	h.pushing.Lock()
	defer h.pushing.Unlock()
	all, err := h.store.Contents(ctx, "")
	if err != nil {
		return nil, err
	}
	unkept := plan.Unkept(time.Now(), all, plan.Retention{Grace: h.cfg.Grace, Tags: h.cfg.Tags})
	for i, content := range unkept {
		if err := h.store.RemoveContent(ctx, content.Repository, content.Digest); err != nil && maru.KindOf(err) != maru.NotFound {
			return unkept[:i], err
		}
	}
	if len(unkept) > 0 {
		h.log.InfoContext(ctx, "removed from the registry what no tag leads to", "contents", len(unkept))
	}
	return unkept, nil
}
