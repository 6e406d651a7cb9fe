# Turn the lines "sample reads aligned snps indels" into a table, as text or (form=html) as a page.

BEGIN {
    FS = "\t"
    title = "Variants on the lambda-phage genome"
    if (form == "html") {
        print "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>" title "</title>"
        print "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:right}</style>"
        print "<h1>" title "</h1>\n<table>"
        print "<tr><th>sample<th>reads<th>aligned<th>SNPs<th>indels<th>variants</tr>"
    } else {
        print title
        printf "%-10s %8s %9s %6s %7s %9s\n", "sample", "reads", "aligned", "SNPs", "indels", "variants"
    }
}

{
    share = $2 > 0 ? 100 * $3 / $2 : 0
    if (form == "html")
        printf "<tr><th>%s<td>%d<td>%.1f %%<td>%d<td>%d<td>%d</tr>\n", $1, $2, share, $4, $5, $4 + $5
    else
        printf "%-10s %8d %7.1f %% %6d %7d %9d\n", $1, $2, share, $4, $5, $4 + $5
}

END {
    if (form == "html") print "</table>\n</html>"
}
