# Asks a host what it is and what it has, and makes the job's directory.
# $1 nonce, $2 'job', 'check' or nothing, $3 job id, $4 state directory, $5 opencode, $6 work directory.
ho_nonce=$1
ho_mode=$2
ho_job=$3
ho_state=$4
ho_configured=$5
ho_work=$6
ho_begin
ho_clock
ho_say clock_ms "$ho_now"
ho_say clock_precise "$ho_precise"
ho_say os "$(uname -s)"
ho_say arch "$(uname -m)"
ho_say hostname "$(uname -n)"
ho_say user "$(id -un 2>/dev/null)"
ho_say shell "${SHELL:-}"
ho_say machine "$(ho_machine_id)"
ho_say boot "$(ho_boot_identity)"
# Without a locale, fish passes a home that is not ASCII on respelled: then the user database is asked.
if ! [ -d "${HOME:-}/" ]; then
  ho_user=$(id -un)
  case $ho_user in
    '' | -* | *[!A-Za-z0-9._-]*) ;;
    *)
      eval "HOME=~$ho_user"
      export HOME
      ;;
  esac
fi
ho_home=$(cd -- "${HOME:-/}" 2>/dev/null && pwd -P)
[ -n "$ho_home" ] || ho_home=/
ho_say home "$ho_home"

ho_has() { command -v "$1" >/dev/null 2>&1; }
for ho_tool in setsid nohup timeout; do
  if ho_has "$ho_tool"; then ho_say tool "$ho_tool"; fi
done
for ho_tool in sha256sum shasum sha256 openssl; do
  if ho_has "$ho_tool"; then
    ho_say sha256 "$ho_tool"
    break
  fi
done

# logind may end everything a user left behind when the last connection closes.
ho_find_timer
ho_reap=unknown
if ho_has busctl; then
  case $(ho_bounded 3 busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
    org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null) in
    *true*) ho_reap=yes ;;
    *false*) ho_reap=no ;;
  esac
fi
if [ "$ho_reap" = unknown ] && ho_has loginctl; then
  if cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null |
    grep -i '^[[:space:]]*KillUserProcesses[[:space:]]*=[[:space:]]*\(yes\|true\|on\|1\)' >/dev/null; then
    ho_reap=yes
  fi
fi
if [ "$ho_reap" = yes ] && [ -e "/var/lib/systemd/linger/$(id -un)" ]; then ho_reap=no; fi
ho_say kills_at_logout "$ho_reap"

ho_plain_path=$PATH
if ho_capture_login_env "$ho_nonce"; then
  eval "$ho_login_env"
  unset HANDOVER_MARK
  ho_say login_env ok
else
  ho_say login_env "$ho_login_why"
fi

# Makes a configured path absolute: '~' is the home, and so is the start of a relative one.
ho_expand() {
  # shellcheck disable=SC2088
  case $1 in
    '~') printf '%s\n' "$ho_home" ;;
    '~/'*) printf '%s\n' "${ho_home%/}/${1#??}" ;;
    /*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "${ho_home%/}/$1" ;;
  esac
}

# Resolves links in the part of an absolute path that is there.
ho_resolve() {
  ho_path=$1
  ho_rest=
  while [ "$ho_path" != / ] && ! [ -d "$ho_path/" ]; do
    ho_path=${ho_path%"${ho_path##*[!/]}"}
    ho_rest=/${ho_path##*/}$ho_rest
    ho_path=${ho_path%/*}
    [ -n "$ho_path" ] || ho_path=/
  done
  ho_path=$(cd -- "$ho_path" 2>/dev/null && pwd -P) || ho_path=
  printf '%s\n' "${ho_path%/}$ho_rest"
}

if [ -n "$ho_work" ]; then
  ho_work=$(ho_expand "$ho_work")
  if [ -d "$ho_work/" ]; then
    ho_say workdir_exists yes
  elif [ -e "$ho_work" ]; then
    ho_say workdir_exists other
  else
    ho_say workdir_exists no
  fi
else
  ho_work=$ho_home
  ho_say workdir_exists yes
fi
ho_work=$(ho_resolve "$ho_work")
ho_say workdir "${ho_work:-/}"

if [ -n "$ho_state" ]; then
  ho_state=$(ho_expand "$ho_state")
else
  case ${XDG_STATE_HOME:-} in
    /*) ho_state=$XDG_STATE_HOME ;;
    *) ho_state=${ho_home%/}/.local/state ;;
  esac
fi
ho_state=$(ho_resolve "$ho_state")
ho_say state "${ho_state%/}/handover"

# Every directory is made in its own step, so that the error names the one that failed.
ho_make_directory() {
  umask 077
  case $ho_mode in
    job) ho_parent=jobs ho_name=$ho_job ;;
    *) ho_parent=check ho_name=$ho_nonce ;;
  esac
  ho_root=${ho_state%/}/handover
  ho_error=$(mkdir -p -- "$ho_root/$ho_parent" 2>&1 && chmod 700 "$ho_root" "$ho_root/$ho_parent" 2>&1) || return 1
  ho_directory=$ho_root/$ho_parent/$ho_name
  # An earlier question whose answer was lost may have made it; once it is claimed it is nobody's to fill.
  if [ -e "$ho_directory/claim" ]; then
    ho_error='the job is claimed already'
    return 1
  fi
  ho_new=no
  if [ ! -d "$ho_directory/params" ]; then
    ho_new=yes
    ho_error=$(mkdir -p -- "$ho_directory/params" 2>&1) || return 1
  fi
  # Read back over SFTP: another content, or none, means that SFTP and the shell see different trees.
  ho_error=$( (printf '%s\n' "$ho_nonce" >"$ho_directory/visible") 2>&1) || return 1
}
if [ -n "$ho_mode" ]; then
  ho_umask=$(umask)
  ho_made=no
  ho_make_directory && ho_made=yes
  umask "$ho_umask"
  if [ "$ho_made" = yes ]; then
    ho_say directory "$ho_directory"
    ho_say directory_new "$ho_new"
    ho_available=
    # Columns before the percentage: device names may hold blanks.
    # shellcheck disable=SC2046
    set -- $(df -Pk "$ho_directory" 2>/dev/null | tail -n 1)
    for ho_field; do
      case $ho_field in
        [0-9]*%) break ;;
        *) ho_available=$ho_field ;;
      esac
    done
    ho_say free_kib "$ho_available"
  else
    ho_say directory_error "$(ho_first_line "$ho_error")"
  fi
fi

ho_data=$(ho_resolve "${XDG_DATA_HOME:-${ho_home%/}/.local/share}/opencode")
ho_say data "$ho_data"
if [ -d "$ho_data" ]; then
  # shellcheck disable=SC2012
  ho_say data_inode "$(ls -di "$ho_data" 2>/dev/null | sed -e 's/^ *//' -e 's/ .*//')"
fi

ho_opencode=
ho_try() {
  [ -z "$ho_opencode" ] || return 0
  ho_say tried "$1"
  if [ -f "$1" ] && [ -x "$1" ]; then ho_opencode=$1; fi
}
ho_try_path() {
  [ -z "$ho_opencode" ] || return 0
  ho_say tried "$1: $2"
  # shellcheck disable=SC2030,SC2031
  ho_found=$(
    PATH=$2
    command -v opencode 2>/dev/null
  )
  case $ho_found in
    /*) ho_opencode=$ho_found ;;
  esac
}
if [ -n "$ho_configured" ]; then
  ho_try "$(ho_expand "$ho_configured")"
else
  # shellcheck disable=SC2031
  ho_try_path 'PATH of the login shell' "$PATH"
  ho_try_path 'PATH without a login' "$ho_plain_path"
  for ho_place in .opencode/bin .local/bin .bun/bin .npm-global/bin .volta/bin .local/share/mise/shims; do
    ho_try "${ho_home%/}/$ho_place/opencode"
  done
  if [ -z "$ho_opencode" ] && ho_has npm; then
    ho_prefix=$(ho_bounded 10 npm prefix -g </dev/null 2>/dev/null | tail -n 1)
    case $ho_prefix in
      /*) ho_try "$ho_prefix/bin/opencode" ;;
    esac
  fi
  if [ -z "$ho_opencode" ]; then
    # The newest of several Node.js versions has it most likely.
    # shellcheck disable=SC2012
    ho_try "$(ls -td "${ho_home%/}"/.nvm/versions/node/*/bin/opencode 2>/dev/null | sed -n '1p')"
  fi
  for ho_place in /usr/local/bin /opt/homebrew/bin /home/linuxbrew/.linuxbrew/bin; do
    ho_try "$ho_place/opencode"
  done
fi
if [ -n "$ho_opencode" ]; then
  ho_say opencode "$ho_opencode"
  # An installation by npm finds its node beside itself.
  # shellcheck disable=SC2031
  PATH=$PATH:${ho_opencode%/*}
  export PATH
  if ho_text=$(ho_bounded 20 "$ho_opencode" --version </dev/null 2>&1); then
    ho_say version "$(printf '%s\n' "$ho_text" | tail -n 1 | cut -c 1-100)"
  else
    ho_say version_error "$(ho_first_line "$ho_text")"
  fi
fi
ho_end
