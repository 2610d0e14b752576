# Start-up files that talk, on both streams, as many people's do.
echo "Welcome to $(hostname)! You have 3 new messages."
echo "warning: the sky is falling" >&2
printf '\033[1mbold\033[0m no newline at the end'
