# Asks dpkg, one process for each question.
while IFS='	' read -r kind left right; do
    if [ "$kind" = c ]; then
        if dpkg --compare-versions "$left" lt "$right" 2>/dev/null; then
            echo '<'
        elif dpkg --compare-versions "$left" eq "$right" 2>/dev/null; then
            echo '='
        else
            echo '>'
        fi
    elif dpkg --compare-versions "$left" "${right%% *}" "${right#* }" 2>/dev/null; then
        echo true
    else
        echo false
    fi
done
