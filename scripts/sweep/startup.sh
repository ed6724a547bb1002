#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Start-up script of every worker of a point's TPU, run as root at each boot:
# mounts the bucket, checks out the commit, installs, trains until it has ended.
# What differs between points comes as instance metadata (cloud_tpu.py).
#
# Worker 0 keeps sweep.json of the point in the bucket, which `sweep tpu status`
# and `watch` read, and deletes the TPU when the point is done. A worker that
# cannot go on deletes it, whichever it is: what waits costs as much as what
# runs. Where even that fails, `watch` sees that nothing moves.

set -uo pipefail
set -m # Each background job is a process group, to be killed as one.
home=${SWEEP_HOME:-/opt/sweep}
mount=${SWEEP_MOUNT:-/mnt/sweep}
pause=${SWEEP_PAUSE_S:-10}
poll=${SWEEP_POLL_S:-5}
export TQDM_MININTERVAL=10 # The log is kept: not ten lines a second.
mkdir -p "$home" "$mount"
exec > >(tee -a "$home/log.txt") 2>&1

metadata() {
  curl -sf -H 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/$1"
}

retry() { # A network that is not up yet, a registry that is busy.
  local try
  for try in 1 2 3 4 5; do
    "$@" && return
    echo "try $try failed: $*" >&2 # Its output may be a value.
    sleep $((pause * try))
  done
  return 1
}

give_back() {
  gcloud compute tpus queued-resources delete "$resource" --zone="$zone" \
    --project="$project" --force --quiet --async \
    || echo "could not delete $resource: do it with python -m scripts.sweep tpu delete --yes"
}

# First what it takes to give the TPU back.
resource='' zone='' project=''
for name in resource zone project worker bucket workdir repository commit \
  install command total-steps; do
  key=attributes/sweep-$name
  [ $name = worker ] && key=attributes/agent-worker-number
  if ! value=$(retry metadata "$key") || [ -z "$value" ]; then
    echo "no $key in the metadata"
    give_back
    exit 1
  fi
  declare "${name//-/_}=$value"
done
folder=$mount/$workdir
echo "-- $(date -u +%FT%TZ) worker $worker of $resource, commit $commit"

mark() { # mark STATE EXIT_CODE: whole or not at all, failures by any worker
  local file=sweep.json
  if [ "$worker" != 0 ]; then
    [ "$1" = failed ] || return 0
    file=failed.json
  fi
  printf '{"state": "%s", "exit_code": %s, "total_steps": %s, "time": "%s", "host": "%s", "worker": %s}\n' \
    "$1" "$2" "$total_steps" "$(date -u +%FT%TZ)" "$(hostname)" "$worker" \
    > "$folder/$file.$worker.tmp"
  mv "$folder/$file.$worker.tmp" "$folder/$file"
}

upload_log() {
  cp "$home/log.txt" "$folder/logs/worker-$worker.txt"
  # A small file for `watch`: it changes as long as the log grows.
  [ "$worker" != 0 ] || stat -c %s "$home/log.txt" > "$folder/logs/bytes.txt"
}

mount_bucket() {
  mountpoint -q "$mount" && return
  if ! command -v gcsfuse > /dev/null; then
    install -d /etc/apt/keyrings
    curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg \
      -o /etc/apt/keyrings/cloud.google.asc || return 1
    echo "deb [signed-by=/etc/apt/keyrings/cloud.google.asc]" \
      "https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -c -s) main" \
      > /etc/apt/sources.list.d/gcsfuse.list
    apt-get -q update && apt-get -q install -y gcsfuse || return 1
  fi
  # Without its cache of metadata, since workers see one another's files; a
  # checkpoint gets its name by renaming a folder, which has a limit of files.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 \
    --rename-dir-limit=1000000 "$bucket" "$mount"
}

check_out() {
  [ "$(git -C "$home/code" rev-parse HEAD 2> /dev/null)" = "$commit" ] && return
  rm -rf "$home/code"
  git init -q "$home/code" \
    && git -C "$home/code" fetch -q --depth 1 "$repository" "$commit" \
    && git -C "$home/code" checkout -q --detach FETCH_HEAD
}

install_code() { # The images' own Python may be older than 3.11.
  [ -e "$home/installed-$commit" ] && return
  python3 -m pip install -q uv \
    && python3 -m uv venv -q --clear --python 3.11 "$home/venv" \
    && (cd "$home/code" \
      && python3 -m uv pip install -q --python "$home/venv/bin/python" -e "$install") \
    && touch "$home/installed-$commit"
}

if ! { retry mount_bucket && retry mkdir -p "$folder/logs"; }; then
  give_back # without a word in the bucket
  exit 1
fi
# Of another launch; who fails in this one needs longer than that to say so.
[ "$worker" != 0 ] || rm -f "$folder/failed.json"

# The log goes to the bucket once a minute, whole: a bucket cannot append.
(while upload_log; sleep 60; do :; done) &
uploader=$!
trap 'kill -- -$uploader 2> /dev/null' EXIT

if ! { retry check_out && retry install_code; }; then
  mark failed 1
  upload_log
  give_back
  exit 1
fi

cd "$home/code"
crashes=0
while true; do
  mark running null
  SECONDS=0
  # Quoted by shlex; exec, so that signals reach it and not a shell around it.
  eval "exec $home/venv/bin/python $command" &
  training=$!
  (while sleep "$poll"; do
    if [ "$(metadata preempted)" = TRUE ]; then
      kill -TERM $training
      break
    fi
  done) &
  watcher=$!
  wait $training
  code=$?
  kill -- -$watcher 2> /dev/null
  echo "-- $(date -u +%FT%TZ) worker $worker: exit code $code"
  case $code in
    0) mark done 0 ;;
    2) mark failed 2 ;; # the user's mistake
    75)
      mark preempted 75
      upload_log
      # Gone soon if the whole TPU is; if it was only the process, go on.
      sleep "$pause"
      continue
      ;;
    *)
      # Another worker went away, or memory ran out: five times in a row. Code 1
      # may be that, too, but also a run that diverges: twice. Code 69 took half
      # an hour in which the other workers did not come, and no step was made.
      [ $SECONDS -gt 1800 ] && [ $code != 69 ] && crashes=0
      crashes=$((crashes + (code == 1 ? 3 : 1)))
      if [ $crashes -lt 5 ]; then
        mark preempted $code
        upload_log
        sleep "$pause"
        continue
      fi
      mark failed $code
      ;;
  esac
  upload_log
  # Others may still be writing their logs when one of them is done.
  [ "$worker" != 0 ] && [ "$code" = 0 ] || give_back
  exit $((code != 0))
done
