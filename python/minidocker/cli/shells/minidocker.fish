# fish completion for minidocker: minidocker completion fish | source

function __minidocker_complete
    set -l tokens (commandline -opc)
    set -l word (commandline -ct)
    set -l directive
    for line in (minidocker __complete $tokens[2..] "$word" 2>/dev/null)
        if string match -q ':*' -- $line
            set directive (string sub -s 2 -- $line)
        else
            printf '%s\n' $line
        end
    end
    set -l kind (string split -m 1 ' ' -- $directive)
    switch $kind[1]
        case files directories
            set -l prefix $kind[2]
            set -l path (string sub -s (math (string length -- "$prefix") + 1) -- "$word")
            set -l found
            if test $kind[1] = files
                set found (__fish_complete_path "$path")
            else
                set found (__fish_complete_directories "$path" '')
            end
            for path in $found
                printf '%s%s\n' "$prefix" $path
            end
        case command
            set -l rest $tokens[(math $kind[2] + 1)..]
            set -l line (string join ' ' -- (string escape -- $rest) "$word")
            complete -C "$line"
    end
end

complete -c minidocker -f -a '(__minidocker_complete)'
