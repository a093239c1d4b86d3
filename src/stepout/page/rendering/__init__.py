"""From the values of a page to what is seen: summary, timeline, lineage, charts, and one HTML file."""
