"""From a result to pages and pictures for people."""
