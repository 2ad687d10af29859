# Asks dpkg, one process or two for each question. It ends with 2 where it refuses, and only warns of unfit characters.
while IFS='	' read -r kind left right; do
    if [ "$kind" = c ]; then
        dpkg --compare-versions "$left" lt "$right" 2>/dev/null
        case $? in
        0) echo '<' ;;
        1) if dpkg --compare-versions "$left" eq "$right" 2>/dev/null; then echo '='; else echo '>'; fi ;;
        *) echo invalid ;;
        esac
    else
        dpkg --compare-versions "$left" "${right%% *}" "${right#* }" 2>/dev/null
        case $? in
        0) echo true ;;
        1) echo false ;;
        *) echo invalid ;;
        esac
    fi
done
