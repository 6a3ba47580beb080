"""A page for each separated image, which a browser shows without a network.

census    what is detected before and after, and the fluxes
charts    a histogram and a scatter plot as SVG
document  the page and the index of a batch
"""
