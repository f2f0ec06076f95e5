"""When a frame may be delivered: FIFO, causal, agreed and safe as release rules over the same streams."""
