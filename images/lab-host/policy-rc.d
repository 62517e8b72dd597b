#!/bin/sh
# Packages must not start their daemons while an image is built; lab-init does that.
exit 101
