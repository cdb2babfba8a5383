#compdef minidocker
# zsh completion for minidocker: eval "$(minidocker completion zsh)", or this text as the file
# _minidocker in a directory of $fpath.

_minidocker() {
    local line directive word
    local -a candidates descriptions
    for line in "${(@f)$(minidocker __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ $line == :* ]]; then
            directive=${line#:}
        else
            word=${line%%$'\t'*}
            candidates+=("$word")
            if [[ $line == *$'\t'* ]]; then
                descriptions+=("$word  -- ${line#*$'\t'}")
            else
                descriptions+=("$word")
            fi
        fi
    done
    case $directive in
        (files*|directories*)
            [[ $directive == *' '* ]] && compset -P '*='
            if [[ $directive == files* ]]; then _files; else _files -/; fi
            ;;
        (command*)
            local start=${directive#command }
            shift start words
            (( CURRENT -= start ))
            _normal
            ;;
        (*)
            local -a open closed open_text closed_text
            local i
            for (( i = 1; i <= $#candidates; i++ )); do
                if [[ $candidates[i] == *[=:] ]]; then
                    open+=("$candidates[i]"); open_text+=("$descriptions[i]")
                else
                    closed+=("$candidates[i]"); closed_text+=("$descriptions[i]")
                fi
            done
            (( $#closed )) && compadd -l -d closed_text -a closed
            (( $#open )) && compadd -S '' -l -d open_text -a open
            ;;
    esac
}

if [[ $funcstack[1] == _minidocker ]]; then
    _minidocker "$@"
else
    compdef _minidocker minidocker
fi
