"""Services that lead back to this gateway: found after one turn, by whichever worker."""
