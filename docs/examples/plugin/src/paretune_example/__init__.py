"""A metric and a data set format of one's own, for Paretune."""
