"""What all stages share: timing, files of figures, the pack that ours is measured against, running all stages."""
