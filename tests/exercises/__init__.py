"""Each module adds something as docs/developer_guide.md says, and uses it end to end."""
