#!/bin/sh
# Starts what the image starts; workers/vast/start.sh ends in it.
exec supervisord --nodaemon --configuration /etc/supervisor/supervisord.conf
