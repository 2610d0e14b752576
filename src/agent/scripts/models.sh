# Lists the models that the agent knows in the login environment. $1 nonce, $2 opencode,
# $3 the check's directory.
ho_nonce=$1
ho_opencode=$2
ho_begin
if ho_capture_login_env "$ho_nonce"; then
  eval "$ho_login_env"
  unset HANDOVER_MARK
fi
PATH=$PATH:${ho_opencode%/*}
export PATH
umask 077
# Into a file: what the agent writes into a pipe can be cut when it ends.
ho_bounded 60 "$ho_opencode" models </dev/null >"$3/models" 2>/dev/null
sed -n -e "s/^\\([^ ]*\\/.*\\)\$/$ho_nonce model=\\1/p" "$3/models"
ho_end
