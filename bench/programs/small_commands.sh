# What a shell script is made of: small commands, pipes, substitutions, redirections.
set -eu
folder=$(mktemp -d)
i=0
while [ "$i" -lt 20 ]; do
  echo "line $i" >"$folder/$i"
  name=$(basename "$folder/$i")
  grep -q "line $name" "$folder/$i"
  sed 's/line/row/' "$folder/$i" | cut -d ' ' -f 2 >>"$folder/all"
  i=$((i + 1))
done
sort -n "$folder/all" | uniq | wc -l
rm -r "$folder"
