# bash completion for minidocker: eval "$(minidocker completion bash)"

_minidocker() {
    # COMP_WORDS is split at = and : as well; join its parts into words between blanks.
    local rest=${COMP_LINE:0:COMP_POINT} trimmed part i
    local -a words=() starts=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        part=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && part=$trimmed
        if ((i == 0)) || [[ $trimmed != "$rest" ]]; then
            words+=("$part")
            starts+=("$i")
        else
            words[${#words[@]}-1]+=$part
        fi
        rest=${trimmed#"$part"}
    done
    local word=${words[${#words[@]}-1]}
    # Bash replaces only the part of the word after its last separator.
    local kept=${word%"${word##*[=:]}"}
    [[ $COMP_WORDBREAKS == *:* ]] || kept=${word%"${word##*=}"}

    local line directive= candidate
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :* ]]; then
            directive=${line#:}
        else
            candidate=${line%%$'\t'*}
            [[ $candidate == *[=:] ]] && compopt -o nospace 2>/dev/null
            COMPREPLY+=("${candidate#"$kept"}")
        fi
    done < <(minidocker __complete "${words[@]:1}" 2>/dev/null)
    case $directive in
        files* | directories*)
            local action=-f path=${word#"${directive#* }"}
            [[ $directive == directories* ]] && action=-d
            [[ $directive == *' '* ]] || path=$word
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen "$action" -- "$path")
            ;;
        command*)
            local start=${starts[${directive#command }]}
            if declare -F _command_offset >/dev/null; then
                _command_offset "$start"
            elif ((start == COMP_CWORD)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$word")
            else
                compopt -o default 2>/dev/null
            fi
            ;;
    esac
}
complete -F _minidocker minidocker
